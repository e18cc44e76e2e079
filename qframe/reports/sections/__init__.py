"""The sections of a model's page, one module each.

A section is a function of some figures of the report; `qframe.reports.model_report` lists
them in their order.
"""
