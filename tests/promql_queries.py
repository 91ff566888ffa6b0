"""PromQL of every kind, over the series that those who ask have sent."""

import re
from random import Random

QUERIES = """
temperature
temperature{room=~"h.*|lab"}
temperature{room!="hall", floor=""}
{__name__=~"temp.*|odd"}
temperature offset 5m
temperature offset -5m
temperature @ start()
temperature @ end() offset 1m
rate(requests_total[1m])
rate(requests_total[5m])
increase(requests_total[2m])
irate(requests_total[2m])
delta(temperature[3m])
idelta(temperature[3m])
deriv(temperature[5m])
predict_linear(temperature[5m], 600)
resets(requests_total[20m])
changes(temperature[5m])
avg_over_time(temperature[5m])
min_over_time(odd[2m])
max_over_time(odd[2m])
sum_over_time(temperature[5m])
count_over_time(requests_total[5m])
last_over_time(temperature[5m])
stddev_over_time(temperature[5m])
stdvar_over_time(temperature[5m])
present_over_time(build_info[5m])
quantile_over_time(0.3, temperature[5m])
quantile_over_time(scalar(vector(0.9)), temperature[5m])
quantile_over_time(2, temperature[5m])
absent(nothing{job="x", room=~".*"})
absent(temperature)
absent_over_time(temperature{room="gap"}[1m])
sum(requests_total)
sum by (instance) (rate(requests_total[5m]))
sum without (code) (rate(requests_total[5m]))
avg by (code) (requests_total)
min by (floor) (temperature)
max(temperature)
count by (room) (temperature)
group(temperature)
stddev(temperature)
stdvar by (instance) (requests_total)
quantile(0.9, temperature)
quantile by (code) (0.25, requests_total)
topk(2, temperature)
bottomk(1, requests_total) by (code)
topk by (instance) (2, requests_total)
count_values("value", build_info)
count_values by (instance) ("v", build_info)
sum(odd)
max(odd)
temperature + 1
1 - temperature
temperature % 3
temperature ^ 2
2 ^ 3 ^ 2
-temperature
-temperature ^ 2
temperature > 20
20 < temperature
temperature > bool 20
temperature == temperature
1 < bool 2
requests_total / requests_total
requests_total{code="500"} / ignoring(code) requests_total{code="200"}
requests_total / on(instance) group_left sum by (instance) (requests_total)
requests_total * on(instance) group_left(version) build_info
build_info * on(instance) group_right(version) requests_total
sum by (instance) (requests_total) * on(instance) group_left(version) build_info
requests_total > on(instance, code) requests_total offset 1m
requests_total >= bool on(instance, code) requests_total offset 1m
requests_total and temperature
requests_total{code="500"} and on(instance) build_info{version="2"}
requests_total unless on(instance) build_info{version="2"}
temperature{room="lab"} or temperature
temperature or on(room) vector(1)
vector(1)
scalar(temperature)
scalar(temperature{room="lab"})
vector(scalar(temperature{room="hall"}))
time()
timestamp(temperature)
timestamp(temperature + 0)
abs(temperature - 20)
ceil(temperature)
floor(temperature)
round(temperature)
round(temperature, 0.5)
clamp(temperature, 18, 22)
clamp(temperature, 22, 18)
clamp_min(temperature, 20)
clamp_max(temperature, 20)
exp(temperature)
ln(temperature)
log2(temperature)
log10(temperature)
sqrt(temperature)
sgn(temperature - 20)
sin(temperature)
acosh(temperature)
deg(rad(temperature))
pi()
hour()
minute(vector(time() - 3600))
day_of_month()
day_of_week()
day_of_year()
days_in_month()
month()
year()
sort(temperature)
sort_desc(temperature)
label_replace(temperature, "place", "$1-${1}x$$", "room", "(.).*")
label_replace(temperature, "place", "same", "room", "nothing")
label_replace(temperature, "room", "", "floor", ".+")
label_join(temperature, "both", "/", "room", "floor")
histogram_quantile(0.9, latency_bucket)
histogram_quantile(0.5, sum by (le) (rate(latency_bucket[5m])))
histogram_quantile(1.5, latency_bucket)
histogram_quantile(0.2, rate(latency_bucket{le!="+Inf"}[5m]))
max_over_time(temperature[10m:1m])
avg_over_time(rate(requests_total[1m])[5m:30s])
sum_over_time((temperature > 20)[5m:])
rate(requests_total[1m:10s])
max_over_time(temperature[5m:30s] offset 2m)
max_over_time(temperature[5m:30s] @ end())
max_over_time((temperature + 1)[30s:1h])
last_over_time(temperature[5m] offset 3m)
sum(rate(requests_total{code=~"5.."}[5m])) / sum(rate(requests_total[5m])) > 0.1
(temperature)
((temperature)) + (temperature)
Inf
NaN
1 / 0
0x1F + .5
nothing
nothing + temperature
temperature{room="lab"} == on() temperature{room="hall"}
""".strip().splitlines()

REFUSED = """
temperature[5m]
(temperature[5m])
((temperature[5m:1m]))
"text"
("text")
topk(NaN, temperature)
bottomk(Inf, temperature)
count_values("a-b", temperature)
count_values("", temperature)
sum(
rate(temperature)
temperature + on(room
nothing_like_this(temperature)
temperature + on() requests_total
requests_total / on(instance) requests_total
label_replace(label_replace(temperature, "room", "", "room", ".*"), "floor", "", "room", ".*")
label_replace(temperature, "a-b", "x", "floor", ".*")
temperature{room=~"("}
{}
{room=""}
temperature[5m] offset 5m
1 and temperature
""".strip().splitlines()


GRAMMAR = {
    "vector": [
        "<aggregate> <grouping> (<vector>)",
        "<counting>(<metric>[<minutes>m])",
        "<smoothing>_over_time((<vector>)[<minutes>m250ms:<seconds>s])",
        "(<vector>) <arithmetic><matching> (<vector>)",
        "(<vector>) <comparison> <number>",
        "(<vector>) <set> <matching> (<metric>)",
        "<function>(<vector>)",
    ],
    "metric": [
        "temperature",
        'temperature{room!="lab"}',
        "requests_total",
        'requests_total{instance="a"}',
        "build_info",
        "latency_bucket",
    ],
    "aggregate": ["sum", "avg", "min", "max", "count", "stddev", "group"],
    "grouping": ["", "by (instance)", "without (code)", "by (room, code)"],
    "counting": ["rate", "increase", "delta", "changes", "irate", "deriv"],
    "smoothing": ["max", "avg", "count", "stdvar", "last", "sum"],
    "minutes": ["1", "3", "7"],
    "seconds": ["15", "60"],
    "arithmetic": ["+", "-", "*", "/"],
    "matching": ["", "", " ignoring(code)", " on(room)", " on(instance)"],
    "comparison": [">", "<=", ">= bool"],
    "number": ["1.2345", "20.12345"],
    "set": ["and", "or", "unless"],
    "function": ["abs", "deg", "-"],
}
"""No window's edge falls on a moment of a subquery, and no step is made of a number's last bit."""


def a_query(chance: Random, depth: int = 3) -> str:
    """A random expression, which may have no answer."""

    def expanded(found: re.Match[str]) -> str:
        if found[1] == "vector":
            return a_query(chance, depth - 1)
        return chance.choice(GRAMMAR[found[1]])

    template = chance.choice(GRAMMAR["vector"]) if depth else "<metric> <offset>"
    template = template.replace("<offset>", chance.choice(["", "", "offset 90s"]))
    return re.sub("<([a-z]+)>", expanded, template)
