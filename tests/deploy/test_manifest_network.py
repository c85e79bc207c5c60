"""Who reaches what in every overlay: policies, services, selectors and the scrape."""

from manifests import Manifest, labels


def test_nothing_goes_in_or_out_but_what_is_named(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    default = manifests["NetworkPolicy", "plaudit-default"]["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert not default.get("ingress")
    assert not default.get("egress")
    chosen = default["podSelector"]["matchLabels"].items()
    for (kind, name), doc in manifests.items():
        if kind == "Deployment":
            assert chosen <= labels(doc).items()
            assert ("NetworkPolicy", name) in manifests


def test_only_callers_reach_the_scores_and_only_prometheus_the_metrics(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    rules = manifests["NetworkPolicy", "plaudit"]["spec"]["ingress"]
    allowed = [
        (port["port"], peer["podSelector"]["matchLabels"])
        for rule in rules
        for port in rule["ports"]
        for peer in rule["from"]
    ]
    assert allowed == [
        ("http", {"plaudit-client": "true"}),
        ("admin", {"app.kubernetes.io/name": "prometheus"}),
    ]


def test_the_service_itself_reaches_redis_and_dns_only(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    cache, names = manifests["NetworkPolicy", "plaudit"]["spec"]["egress"]
    assert [list(peer) for peer in cache["to"]] == [["podSelector"]]
    assert [port["port"] for port in cache["ports"]] == [6379]
    assert {port["port"] for port in names["ports"]} == {53}


def test_redis_is_reached_by_the_service_only_and_reaches_nothing(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    spec = manifests["NetworkPolicy", "plaudit-redis"]["spec"]
    (rule,) = spec["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "plaudit"}}}]
    assert not spec["egress"]


def test_the_engine_opens_no_port_of_its_own(container: Manifest) -> None:
    assert [port["name"] for port in container["ports"]] == ["http", "admin"]


def test_metrics_are_scraped_in_one_way(manifests: dict[tuple[str, str], Manifest]) -> None:
    monitors = [kind for kind, _ in manifests if kind in ("PodMonitor", "ServiceMonitor")]
    template = manifests["Deployment", "plaudit"]["spec"]["template"]["metadata"]
    annotated = template.get("annotations", {}).get("prometheus.io/scrape") == "true"
    assert len(monitors) + annotated == 1
    if annotated:
        assert template["annotations"]["prometheus.io/port"] == "9090"


def test_selectors_find_the_pods(manifests: dict[tuple[str, str], Manifest]) -> None:
    found = [labels(doc).items() for (kind, _), doc in manifests.items() if kind == "Deployment"]
    for (kind, name), doc in manifests.items():
        selector = doc.get("spec", {}).get("selector") or doc.get("spec", {}).get("podSelector")
        if selector:
            wanted = selector if kind == "Service" else selector["matchLabels"]
            assert any(wanted.items() <= each for each in found), (kind, name)


def test_a_service_leads_to_ports_of_its_pods(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    for (kind, _), doc in manifests.items():
        if kind != "Service":
            continue
        (each,) = pods[doc["spec"]["selector"]["app.kubernetes.io/name"]]["containers"]
        known = {port["name"]: port["containerPort"] for port in each["ports"]}
        for port in doc["spec"]["ports"]:
            assert known[port["targetPort"]] == port["port"]


def test_no_service_becomes_a_setting(pods: dict[str, Manifest]) -> None:
    """A Service named plaudit would otherwise put PLAUDIT_PORT=tcp://... into the environment."""
    assert all(pod["enableServiceLinks"] is False for pod in pods.values())
