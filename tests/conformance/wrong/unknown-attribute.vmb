#= 2:20: unknown attribute '@conn'
G> REQUEST_OFFERS  @conn=4
