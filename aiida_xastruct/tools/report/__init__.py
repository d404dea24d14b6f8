"""One page about a result: what was asked, the answer, how sure it is, and what it rests on."""
