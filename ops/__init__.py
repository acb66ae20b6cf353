"""The command line ``./hardway`` for users, in addition to ``pulumi`` itself."""
