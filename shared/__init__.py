"""The contract of the house: subjects, messages, audio, settings, the bus, a service's life.

Everything two services must agree on is here and nowhere else. Nothing here imports a service.
"""
