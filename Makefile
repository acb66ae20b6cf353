# The short ways in. Everything they need is set up by ./hardway itself.

.PHONY: up down test golden bench

up:
	./hardway up

down:
	./hardway down

test:
	./hardway test

# Rewrite the golden clusters, to be reviewed as a diff.
golden:
	./hardway test tests/plan/test_golden.py --golden

bench:
	./hardway bench
