"""`parkgate surge`: a holiday is rehearsed before it comes, against a system of its own or any address."""
