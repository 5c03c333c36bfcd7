"""The pipeline of a batch: fetch, decode, predict, finish, encode, store."""
