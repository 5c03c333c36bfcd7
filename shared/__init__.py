"""Code and data that the API and the worker share: settings, options, tables, storage, queue,
errors.
"""
