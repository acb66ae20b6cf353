module hardway.invalid/recipes/pause

go 1.26
