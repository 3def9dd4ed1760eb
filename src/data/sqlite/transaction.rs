//! Transactions in SQLite: a task that keeps one connection from BEGIN to its end.
//!
//! Owns: when a transaction ends. Never: holds a thread between statements, or uses the connection again afterwards.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    data::{
        select::{Form, Statement, Told, first_word},
        sqlite::{SqlitePool, broken, error_of, execute, jail::Jail, open},
        transaction::{Order, Orders, refusal_inside},
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// Holds a transaction until it is committed, rolled back, ended by an error, or nobody wants it any more. Whatever ends
/// it without a commit undoes it, because that closes the connection.
pub(crate) async fn hold(pool: Arc<SqlitePool>, mut orders: Orders, begun: oneshot::Sender<Result<(), SqlError>>) {
    let permit = match pool.jails.permit(pool.acquire_time).await {
        Ok(permit) => permit,
        Err(error) => {
            _ = begun.send(Err(error)); // a caller who left needs no error
            return;
        }
    };
    let beginning = on_a_thread(&pool, |pool| {
        let jail = open(pool)?;
        jail.begin().map_err(|error| of_host(&jail, error))?;
        Ok(jail)
    });
    let mut jail = match beginning.await {
        Ok(jail) => jail,
        Err(error) => {
            _ = begun.send(Err(error)); // nor here
            return;
        }
    };
    if begun.send(Ok(())).is_err() {
        return;
    }
    while let Some(order) = orders.next().await {
        match order {
            Order::Run { statement, mut producer } => {
                if let Err(error) = judge(&statement) {
                    producer.fail(error).await;
                    continue;
                }
                let runtime = Handle::current();
                let running = on_a_thread(&pool, move |_| {
                    let result = execute(&jail, &statement, &mut producer, &runtime);
                    Ok((jail, producer, result))
                });
                let Ok((returned, mut producer, result)) = running.await else {
                    return orders.close("the SQLite statement could not be run");
                };
                jail = returned;
                match result {
                    Ok(_) => {}
                    Err(error) if error.code == SqlErrorCode::InvalidArgument => producer.fail(error).await,
                    Err(error) => {
                        orders.close(&error.message);
                        undo(&pool, jail).await;
                        return producer.fail(error).await;
                    }
                }
            }
            Order::Commit(done) => {
                let committed = on_a_thread(&pool, move |_| {
                    let unwatched = jail.unwatch();
                    unwatched.and_then(|()| jail.commit()).map_err(|error| of_host(&jail, error))
                });
                let result = committed.await;
                drop(permit);
                _ = done.send(result); // the invocation may have been cancelled
                return;
            }
            Order::Rollback(done) => {
                undo(&pool, jail).await;
                _ = done.send(()); // the invocation may have been cancelled
                return;
            }
        }
    }
    undo(&pool, jail).await;
}

/// Closes the connection, which undoes what was not committed and frees its locks.
async fn undo(pool: &Arc<SqlitePool>, jail: Jail) {
    let closing = on_a_thread(pool, move |_| {
        drop(jail);
        Ok(())
    });
    _ = closing.await; // without a thread, dropping the closure has closed it here
}

fn judge(statement: &Statement) -> Result<(), SqlError> {
    match statement.form {
        Form::Query { .. } => {
            refusal_inside(&first_word(&statement.template.render(|_| "NULL".to_owned()))).map_or(Ok(()), Err)
        }
        Form::Table { .. } | Form::Change { .. } => Ok(()),
    }
}

/// The error of a BEGIN or a COMMIT, which compute nothing of rows.
fn of_host(jail: &Jail, error: rusqlite::Error) -> SqlError {
    error_of(jail, error, &Form::Query { offset: 0, limit: None }, Told::All)
}

/// Does something that blocks.
async fn on_a_thread<R: Send + 'static>(
    pool: &Arc<SqlitePool>,
    act: impl FnOnce(&SqlitePool) -> Result<R, SqlError> + Send + 'static,
) -> Result<R, SqlError> {
    let thread = pool.thread().await?;
    let pool = Arc::clone(pool);
    let acting = tokio::task::spawn_blocking(move || {
        let _thread = thread;
        act(&pool)
    });
    acting.await.map_err(|_| broken())?
}
