#= 3:1: expected connected 5.2, got connected 5.3
version 5.3
= connected 5.2
