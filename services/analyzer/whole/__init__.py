"""Facts of a whole corpus that no sample can tell: types, n-grams, edges, most frequent words. Exact, or in a bound."""
