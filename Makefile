# The short ways in. Everything they need is set up by ./hardway itself.

.PHONY: up down test

up:
	./hardway up

down:
	./hardway down

test:
	./hardway test
