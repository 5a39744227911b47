"""Sources: pretrained classifiers that stay frozen, by name, directory or module."""

from reprogram.sources.architectures import create_network, find_head
from reprogram.sources.base import NetworkSource, Source, preprocessing_of
from reprogram.sources.config import ExtractorConfig
from reprogram.sources.directory import (
    embedded_directory,
    resolve_seeded,
    training_record,
    write_source_directory,
)
from reprogram.sources.extractor import Extractor, OnExtractor
from reprogram.sources.load import load_source
from reprogram.sources.load_extractor import load_extractor
from reprogram.sources.names import SOURCES, SourceEntry, source_names

__all__ = [
    "SOURCES",
    "Extractor",
    "ExtractorConfig",
    "NetworkSource",
    "OnExtractor",
    "Source",
    "SourceEntry",
    "create_network",
    "embedded_directory",
    "find_head",
    "load_extractor",
    "load_source",
    "preprocessing_of",
    "resolve_seeded",
    "source_names",
    "training_record",
    "write_source_directory",
]
