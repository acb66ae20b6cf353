module hardway.invalid/recipes/headlamp

go 1.26
