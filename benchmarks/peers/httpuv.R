# Rscript httpuv.R PORT SITE: the original, in its own loop.
library(httpuv)
arguments <- commandArgs(trailingOnly = TRUE)
app <- list(
  call = function(req) {
    list(status = 200L, headers = list("Content-Type" = "text/plain"), body = "Hello world")
  },
  onWSOpen = function(ws) {
    ws$onMessage(function(binary, message) ws$send(message))
  },
  staticPaths = list("/static" = file.path(arguments[2], "static"))
)
server <- startServer("127.0.0.1", as.integer(arguments[1]), app, quiet = TRUE)
repeat service()
