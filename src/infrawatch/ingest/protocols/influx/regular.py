"""Line protocol as machines mostly write it: `name,tag=value field=1.5 1790000000000`, every line.

What stands before the last `=` of such a line names its series and repeats from batch to batch: it
is only looked up. What follows, the number and the time, is read for all lines at once.

Why that is safe: a line whose beginning is `grammar.KEY`, and whose rest is one number, one space
and an integer, can be read in one way only. The beginnings that were not seen before are held to
the grammar here; the rests are held to it each time. If one line is different, whatever it is, the
body is read line by line.
"""

from typing import Annotated

from pydantic import AllowInfNan, FailFast, StrictFloat, TypeAdapter

_NUMBERS: TypeAdapter[list[float]] = TypeAdapter(
    Annotated[list[Annotated[StrictFloat, AllowInfNan(allow_inf_nan=False)]], FailFast()]
)
"""JSON's numbers are line protocol's, but for `1.`, `.5` and `007`; they are rounded correctly."""
