"""What data is like before anything is trained on it: numbers, then a page and pictures of them.

Floors, lowest first: `interval`, `judged` (pairs and labels as texts); `lengths`, `surface`, `noise`,
`tokens` (one question each); `examine` (all of them, plain containers); `page`, `pictures`.
"""
