"""The API: takes bulk jobs in, tells how they stand, gives the results out."""
