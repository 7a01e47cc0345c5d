"""How many facts a linear associative memory holds, how it holds them, and what sharpening has to do with it.

Giorlandino, Goldt, Maillard: Factual recall in linear associative memories: sharp asymptotics and mechanistic
insights, arXiv 2605.10795. The problem and the constant 1/2 are the paper's; every formula here is derived.
"""

from service.analysis.associative_memory.schema import AssociativeMemoryReply, AssociativeMemoryRequest
from service.analysis.frame import Analysis, Paper

TITLE = "Factual recall in linear associative memories: sharp asymptotics and mechanistic insights"

ASSOCIATIVE_MEMORY = Analysis(
    name="associative-memory",
    paper=Paper(TITLE, "2605.10795"),
    summary="How many facts a linear map can recall, whether it recalls yours, and at which temperature",
    request=AssociativeMemoryRequest,
    response=AssociativeMemoryReply,
    work="service.analysis.associative_memory.work",
    example={"mode": "fit", "input_dim": 16, "num_facts": 54, "seed": 0},
)
