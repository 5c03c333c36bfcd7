"""The life of one batch: fetch, decode, predict, finish, encode, store."""
