"""Identities shared by every part. All are dense indices from 0, so they index arrays directly."""

from typing import NewType

TableId = NewType("TableId", int)  # index into Manifest.tables
ExtentId = NewType("ExtentId", int)  # index into Manifest.extents
ShardId = NewType("ShardId", int)  # index into Manifest.shards
BundleId = NewType("BundleId", int)  # index of a bundle inside its table, in stored order
SlotId = NewType("SlotId", int)  # index into ArenaPlan's slots
