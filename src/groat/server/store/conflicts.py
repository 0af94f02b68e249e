"""What stands in the way of a change: something that is registered already, or a registry that moved meanwhile.

StoreConflict               the operator has to decide
├── Collision               within the engines: a row that is there, or that is missed; told as a StoreConflict
└── RegistryMoved           read again, try again
"""


class StoreConflict(Exception):
    """A registration collides with one that exists (or existed: client ids are never reassigned)."""


class Collision(StoreConflict):
    """The engine refused a statement for what stands in the tables; whoever asked for the change says what it means."""


class RegistryMoved(StoreConflict):
    """The registry is past the version that the writer had read; nothing was written. Read again, try again."""
