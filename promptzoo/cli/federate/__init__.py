"""``promptzoo federate``: several sites train one bundle without showing each other a case."""
