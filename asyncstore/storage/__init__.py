"""Atomic objects on local disk, in memory and in the clouds, behind six verbs."""
