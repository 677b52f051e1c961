"""Metadata and filters for engines that know flat fields, equality and the order of numbers."""
