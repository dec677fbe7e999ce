"""Work on a Ray cluster, behind the same seam as in `ouroscope.executor`. Knows nothing of what is done."""
