"""Rules that a person wrote about what may leave; all that goes to an upstream or a teacher passes here.

It knows no tasks and no HTTP server.
"""
