"""Reading a corpus shard by shard in many places: parts are folded where they lie, and merged as a tree."""
