"""The interactive view: its data, its script and style, the notebook widget and the page that needs no kernel."""
