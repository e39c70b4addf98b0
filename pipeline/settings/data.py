"""Settings of the data: where tasks come from, and by which rules rows become tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.settings.section import Positive, Section, Share


class DataConfig(Section):
    source: str = Field(
        "world",
        description="'world' for the rule world, else a CSV, JSONL or Parquet file, a folder that "
        "datasets' save_to_disk wrote, a database (sqlite:///FILE, postgresql://...) or a Hub "
        "name.",
    )
    table: str = Field("", description="Table to read where the source is a database.")
    question: str = Field("prompt", description="Column that holds the question.")
    reference: str = Field(
        "reference",
        description="Column that holds the reference answer, or a list of several. A rule takes "
        "any of them for right; likelihood is measured of the first.",
    )
    separator: str = Field(
        "",
        description="Text between several references in one cell, as in a CSV; '' takes the cell "
        "whole.",
    )
    options: str = Field(
        "",
        description="Column that holds a list of options, which are put below the question with "
        "letters; '' where questions bring their own, or have none.",
    )
    split_column: str = Field(
        "split", description="Column that says which split a row belongs to, where there is one."
    )
    split: str = Field("train", description="Split to train on, where the source names splits.")
    probe_split: str = Field(
        "", description="Split to hold out for probes; '' holds out probe_share of the rows."
    )
    probe_share: Share = Field(
        0.1, description="Share of a file's rows held out for probes; never trained on."
    )
    strip: Literal["auto", "never"] = Field(
        "auto",
        description="Whether an instruction and a tag skeleton at a question's end are taken off "
        "before the run asks it in its own form.",
    )
    choices: Literal["keep", "letter_text"] = Field(
        "keep",
        description="Multiple choice: leave references as they are, or bring a letter or an "
        "option's text to 'letter. text'.",
    )
    conflicts: Literal["several", "first"] = Field(
        "several",
        description="A question that stands twice with different references: keep all of them, or "
        "the first.",
    )
    duplicates: Literal["remove", "refuse"] = Field(
        "remove",
        description="Questions to train on that stand among the probes too: remove them from "
        "training, or refuse the source.",
    )
    near_threshold: Share = Field(
        0.95,
        description="Share of common three-word runs from which two questions are near-duplicates "
        "and may not stand on both sides; 0 looks for equal ones alone.",
    )
    too_long: Literal["refuse", "drop"] = Field(
        "refuse",
        description="Rows that do not fit the model's context: refuse the source, or drop them; "
        "none is ever cut.",
    )
    seed_depth: Positive = Field(2, description="Rule world: deepest seed task.")
    seed_tasks: Annotated[int, Field(ge=0)] = Field(
        0,
        description="How many seed tasks to keep, drawn by the run's seed; 0 keeps every row of a "
        "file, and 1200 tasks of the rule world.",
    )

    @model_validator(mode="after")
    def _held_out(self) -> DataConfig:
        if self.probe_split and self.probe_split == self.split:
            raise ValueError(
                f"split and probe_split are both {self.split!r}, so probes would ask what was "
                "trained on; name two splits, or leave probe_split empty"
            )
        return self
