"""A checkpoint's model card, from its manifest and an evaluation: Markdown with Hugging Face's
metadata. No path of the machine is in it."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plaudit.checkpoint import Base
from training import report
from training.evaluate.candidates import Checkpoint
from training.evaluate.figures import Evaluation

TEMPLATE = "model_card.md.jinja"


def card(evaluation: Evaluation, model: Checkpoint) -> str:
    """The card of the one checkpoint that was evaluated."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell}
    return environment.get_template(TEMPLATE).render(
        metadata=metadata(evaluation, model),
        model=model,
        manifest=model.manifest,
        base=base_name(model.manifest.base),
        evaluation=evaluation,
        provenance=evaluation.provenance,
        seen=evaluation.provenance["trained_on"][model.name],
        table=report.markdown(evaluation),
        unshown=[
            source
            for source, result in evaluation.sources.items()
            if result.figures[model.name].difference.low <= 0
        ],
    )


def metadata(evaluation: Evaluation, model: Checkpoint) -> str:
    """The block that the hub reads, as YAML."""
    base = model.manifest.base
    found = ModelCardData(
        model_name=model.name,
        base_model=base.id if is_of_hub(base) else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["reward-model", "plaudit"],
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=source,
                dataset_name=source,
                metric_type="accuracy",
                metric_name="pairs ranked right",
                metric_value=round(result.figures[model.name].accuracy.value, 4),
            )
            for source, result in evaluation.sources.items()
        ],
    )
    return f"{found.to_yaml()}\n"


def is_of_hub(base: Base) -> bool:
    return base.commit is not None


def base_name(base: Base) -> str:
    return base.id if is_of_hub(base) else Path(base.id).name


def cell(text: str) -> str:
    """Text inside a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;")
