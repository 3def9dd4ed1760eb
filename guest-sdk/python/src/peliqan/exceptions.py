"""What `pq` raises, under the name by which scripts catch it."""

from pq.exceptions import OperationNotSupported, PeliqanClientException, PeliqanJsonSerializerException

__all__ = ["OperationNotSupported", "PeliqanClientException", "PeliqanJsonSerializerException"]
