"""Parameters that have names in our SQL, and numbers in PostgreSQL's."""

from infrawatch.store.statements import Statement


def test_each_name_gets_a_number_in_the_order_of_their_first_places() -> None:
    statement = Statement.of("SELECT :b WHERE :a < :b2 AND (:b)")

    assert statement == ("SELECT $1 WHERE $2 < $3 AND ($1)", ("b", "a", "b2"))


def test_casts_and_slices_and_times_are_no_parameters() -> None:
    sql = "SELECT 1::bigint, '00:00Z'::timestamptz, words[1:2]"

    assert Statement.of(sql) == (sql, ())
