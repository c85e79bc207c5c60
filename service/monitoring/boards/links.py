"""From one dashboard to another, taking the time range and the variables along."""

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

# Every dashboard: its uid, without the prefix, and its title.
BOARDS = {
    "overview": "Overview",
    "latency": "Latency anatomy",
    "reward-health": "Reward health",
    "cache": "Cache and Redis",
    "capacity": "Capacity",
    "trainer": "Trainer's view",
}


def uid(board: str) -> str:
    return f"plaudit-{board}"


def jump(board: str, title: str) -> DashboardLink:
    """A link of a panel's data: on a stat, one click anywhere on it."""
    url = f"/d/{uid(board)}?${{__url_time_range}}&${{__all_variables}}"
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url)


def menu(of: str) -> list[DashboardLink]:
    """The other dashboards, along the top."""
    return [
        DashboardLink(title)
        .type(DashboardLinkType.LINK)
        .url(f"/d/{uid(board)}")
        .icon("dashboard")
        .include_vars(True)
        .keep_time(True)
        for board, title in BOARDS.items()
        if board != of
    ]
