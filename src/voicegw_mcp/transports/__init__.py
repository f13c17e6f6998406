"""How bytes move between a client and a server, from either end; knows neither tools nor core."""
