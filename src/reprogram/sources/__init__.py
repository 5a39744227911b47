"""Sources: pretrained classifiers that stay frozen, by name, directory or module."""

from reprogram.sources.architectures import create_network, find_head
from reprogram.sources.base import NetworkSource, Source, preprocessing_of
from reprogram.sources.directory import (
    embedded_directory,
    training_record,
    write_source_directory,
)
from reprogram.sources.load import load_source
from reprogram.sources.names import SOURCES, SourceEntry, source_names

__all__ = [
    "SOURCES",
    "NetworkSource",
    "Source",
    "SourceEntry",
    "create_network",
    "embedded_directory",
    "find_head",
    "load_source",
    "preprocessing_of",
    "source_names",
    "training_record",
    "write_source_directory",
]
