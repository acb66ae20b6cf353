module hardway.invalid/recipes/volume-folder

go 1.26
