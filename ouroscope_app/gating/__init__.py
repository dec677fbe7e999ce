"""The gate as a person or a pipeline meets it: what is asked, what is answered, and the forms of the answer."""
