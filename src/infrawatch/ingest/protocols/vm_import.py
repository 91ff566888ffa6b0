"""POST /api/v1/import: the JSON lines VictoriaMetrics exports, so that one can move here from there.

Source: VictoriaMetrics, "How to import data in JSON line format"; `lib/protoparser/vmimport`.

A line is one series: `{"metric":{"__name__":"up","job":"node"},"values":[1,0],"timestamps":[…]}`,
times in milliseconds. `null` is a stale marker, the only NaN that VictoriaMetrics stores.
"""

