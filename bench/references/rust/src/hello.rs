//! A poem-openapi endpoint with constant JSON, which shows what poem-openapi costs by itself. Latchkey's API uses poem-openapi.

use poem::{Route, Server, listener::TcpListener};
use poem_openapi::{Object, OpenApi, OpenApiService, payload::Json};

struct Api;

#[derive(Object)]
struct Hello {
    hello: String,
}

#[OpenApi]
impl Api {
    #[oai(path = "/hello", method = "get")]
    async fn hello(&self) -> Json<Hello> {
        Json(Hello { hello: "world".to_owned() })
    }

    /// The benchmark waits for this endpoint before it measures.
    #[oai(path = "/livez", method = "get")]
    async fn livez(&self) -> Json<Hello> {
        Json(Hello { hello: "alive".to_owned() })
    }
}

/// Serves until the process is killed.
pub(crate) async fn serve(port: u16) -> anyhow::Result<()> {
    let (title, version) = ("hello", "1");
    let routes = Route::new().nest("/", OpenApiService::new(Api, title, version));
    Server::new(TcpListener::bind(("127.0.0.1", port))).run(routes).await?;
    Ok(())
}
