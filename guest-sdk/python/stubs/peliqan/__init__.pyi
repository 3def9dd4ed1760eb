"""`pq` under the name by which scripts written for Peliqan import it."""

import pq
from peliqan import exceptions as exceptions
from pq import *

Peliqan = pq
