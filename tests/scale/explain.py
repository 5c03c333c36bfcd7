"""Collects the plans of a query's statements without keeping its changes."""

from shared.database import Database
from tests.scale.generate import Landmarks
from tests.scale.plans import Plan, Recorder
from tests.scale.queries import Query


class _Undo(Exception):
    pass


def explain(database: Database, query: Query, marks: Landmarks) -> list[Plan]:
    """Run the query in a transaction and roll it back."""
    recorder = Recorder(database=database)
    try:
        with database.transaction() as session:
            given = () if query.prepare is None else (query.prepare(session, marks),)
            session.flush()
            with recorder.recording():
                query.run(session, marks, *given)
                session.flush()
            raise _Undo
    except _Undo:
        return recorder.plans
