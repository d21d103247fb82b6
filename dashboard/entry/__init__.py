"""The script Streamlit runs, in a folder of its own.

Beside a folder `pages/` Streamlit would take every file in there for a page: the first visitor of a link to a page of
ours would then see that bare file run, before `st.navigation` has been called once.
"""
