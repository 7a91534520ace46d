"""Sales: catalogue, orders, payments, issue, refunds, reschedules and shifts, over gRPC and Postgres.

`sales.server.serve(SalesConfig(...))` runs it. It speaks to the cluster over ControlService and to nobody else's
Python.
"""
