module hardway.invalid/recipes/journal-sender

go 1.26
