"""Readers of foreign formats: folders of tumour MRI -> arrays to learn from, through the same `pipeline.prepare` that serves."""

from scripts.datasets.examples import SEALED_FOLD, DataError, Examples, join
from scripts.datasets.heads import bundled_head, healthy_head
from scripts.datasets.layouts import load
from scripts.datasets.volumes import SEALED_PATIENT, cut

__all__ = ["SEALED_FOLD", "SEALED_PATIENT", "DataError", "Examples", "bundled_head", "cut", "healthy_head", "join", "load"]
