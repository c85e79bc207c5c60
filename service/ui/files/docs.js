"use strict";
SwaggerUIBundle({
  url: "/openapi.json",
  domNode: document.getElementById("swagger-ui"),
  deepLinking: true,
  validatorUrl: null, // it would send the schema's address to a public service
});
