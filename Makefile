# The short ways in. Everything they need is set up by ./hardway itself.

.PHONY: up down preview test test-all test-topologies test-kills golden docs picture bench

up:
	./hardway up

down:
	./hardway down

# What this checkout would change of the main branch's cluster; needs no machine and no state.
preview:
	./hardway preview

test:
	./hardway test

# Also what takes long: minions that come and go, several control planes, Docker.
test-all:
	HARDWAY_TEST_ALL=true ./hardway test

# Of what takes long, the clusters that are not the default one.
test-topologies:
	HARDWAY_TEST_ALL=true ./hardway test -v tests/machine/test_single.py tests/machine/test_available.py

# Kill updates of one machine at N random moments, each time going on afterwards.
N ?= 6
test-kills:
	HARDWAY_TEST_ALL=true HARDWAY_KILLS=$(N) ./hardway test -v tests/machine/test_kills.py

# Rewrite the golden clusters, to be reviewed as a diff.
golden:
	./hardway test tests/plan/test_golden.py --golden

# Rewrite the tables of docs/configuration.md from the models of a spec.
docs:
	./hardway test tests/spec/test_reference.py -k tables_are --golden

# Draw the default stack anew, for the README.
picture:
	./hardway picture

bench:
	./hardway bench
