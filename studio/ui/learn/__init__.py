"""Parts of the Train tab and the Evaluate tab: forms, curves, tables, data sets, runs, reports, votes."""
