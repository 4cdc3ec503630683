"""Messages over the links that actors have, between processes and inside one, beside a pipe."""
