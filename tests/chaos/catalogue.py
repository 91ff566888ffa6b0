"""Every scenario there is, in the order of the table."""

from functools import partial

from chaos import peer_faults, postgres_faults, road_faults, server_faults
from chaos.world import Scenario

SCENARIOS = (
    Scenario("server: kill -9", server_faults.kill_the_api, 20),
    Scenario("server: dies after COMMIT, before the answer", server_faults.lose_answers, 50),
    Scenario("server: SIGTERM under load", server_faults.stop_under_load, 5),
    Scenario("two servers: rolling restart", server_faults.restart_one_after_the_other, 3),
    Scenario(
        "two servers behind nginx: rolling restart", server_faults.restart_them_behind_nginx, 3
    ),
    Scenario("one server, two workers: rolling restart", server_faults.restart_its_workers, 3),
    Scenario("PostgreSQL: immediate stop", postgres_faults.stop_at_once, 10),
    Scenario("PostgreSQL: kill -9", postgres_faults.kill, 10),
    Scenario("PostgreSQL: SIGSTOP for 15 s", partial(postgres_faults.hold_still, seconds=15), 1),
    Scenario("PostgreSQL: disk full", postgres_faults.fill_the_disk, 2),
    Scenario("road to PostgreSQL: 50 ms each way", road_faults.make_it_long, 3),
    Scenario("road to PostgreSQL: connections reset", road_faults.reset_connections, 20),
    Scenario(
        "road to PostgreSQL: black hole for 12 s",
        partial(road_faults.swallow_everything, seconds=12),
        1,
    ),
    Scenario(
        "agent: kill -9 with 10,000 spooled batches",
        partial(peer_faults.kill_the_agent, batches=10_000),
        5,
    ),
    Scenario("Redis: hangs, then kill -9", peer_faults.take_redis_away, 3),
)
"""`make chaos`."""

CRASHES = "server or PostgreSQL: kill -9 while it compacts"
"""The row of test_crashes.py, which has a harness of its own: it checks after every round."""

BRIEF = (
    Scenario("server: kill -9", server_faults.kill_the_api, 2),
    Scenario("server: dies after COMMIT, before the answer", server_faults.lose_answers, 2),
    Scenario("server: SIGTERM under load", server_faults.stop_under_load, 1),
    Scenario("two servers: rolling restart", server_faults.restart_one_after_the_other, 1),
    Scenario("one server, two workers: rolling restart", server_faults.restart_its_workers, 1),
    Scenario("PostgreSQL: immediate stop", postgres_faults.stop_at_once, 3),
    Scenario("PostgreSQL: kill -9", postgres_faults.kill, 3),
    Scenario("PostgreSQL: SIGSTOP for 1 s", partial(postgres_faults.hold_still, seconds=1), 1),
    Scenario("road to PostgreSQL: 50 ms each way", road_faults.make_it_long, 1),
    Scenario("road to PostgreSQL: connections reset", road_faults.reset_connections, 5),
    Scenario(
        "road to PostgreSQL: black hole for 2 s",
        partial(road_faults.swallow_everything, seconds=2, write_deadline="1s"),
        1,
    ),
    Scenario(
        "agent: kill -9 with 2,000 spooled batches",
        partial(peer_faults.kill_the_agent, batches=2_000),
        2,
    ),
    Scenario("Redis: hangs, then kill -9", peer_faults.take_redis_away, 1),
)
"""The part of it that `make test` has time for."""
