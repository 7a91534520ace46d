"""Tests. What they start in their own process waits for the network as in production (`ops.polling`)."""

from ops.polling import prefer_plain_polling

prefer_plain_polling()
