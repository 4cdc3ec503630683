"""The kinds of harm, one in each module, each with how a request may then end."""
